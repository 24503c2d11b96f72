"""Evaluation of the maps of one image: are they true to the model, and may they be believed?"""
