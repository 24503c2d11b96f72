"""Evaluation of the maps of one image: are they faithful to the model and reliable?"""
