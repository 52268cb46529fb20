"""Hugging Face's layout of wav2vec 2.0 models: folders read as, and written from, fairseq's names and tensors.

Nothing here needs the transformers library.
"""
