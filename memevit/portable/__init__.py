"""What a Space on the Hub is made of; `page` serves app.py here too."""
