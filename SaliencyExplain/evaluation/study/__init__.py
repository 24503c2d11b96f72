"""A finished study held to the light: do its maps, taken together, deserve to be believed?"""
