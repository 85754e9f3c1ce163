"""Both TV-L1 methods as tensors: on a GPU, and where the compiled kernel was not built.

They follow the kernel step by step (`flow/_kernel`), all pairs of a clip at once.
"""
