"""Hand a finished model out: folders that other tools load, and the card that says what they are."""
