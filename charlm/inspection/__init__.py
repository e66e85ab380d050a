"""What happens inside a network: `gates` records gate values, `memory` how far back it looks."""
