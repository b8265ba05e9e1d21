"""The two training stages, ``pretrain`` and ``instruct``, and the loop that they share."""
