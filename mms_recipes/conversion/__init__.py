"""Models between the layouts of files: ours, stock fairseq's and Hugging Face's."""
