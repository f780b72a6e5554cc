"""From predictions to numbers, intervals and tables. Imports neither torch nor transformers."""
