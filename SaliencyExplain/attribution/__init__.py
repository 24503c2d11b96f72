"""The attribution methods: tensors in, tensors out."""
