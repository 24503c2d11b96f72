"""Is a map true to the classifier, and may it be believed?"""
