"""Models in the files of several makers: ours and stock fairseq's checkpoints, Hugging Face's folders."""
