"""The parts of `fault_campaign.py`: what goes wrong, and what must hold then."""
