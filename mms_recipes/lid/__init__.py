"""Language identification: class lists, trained models that listen, scores, and the languages of files."""
