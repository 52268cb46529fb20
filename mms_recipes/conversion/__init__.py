"""From one format of a model to another, with proof that it says the same."""
