"""Query synthesis: samples that are made, where they tell most, in place of chosen ones."""
