"""The functions of ``import SaliencyExplain``; each is found there by its name."""
