"""Filing images into folders by class, and taking it back; no torch."""
