"""What happens inside a network: `gates` records how open they are, `memory` how far back it looks."""
