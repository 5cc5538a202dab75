"""An object and a change in, the object as it becomes and who owns its fields out: JSON, merge and strategic
patches, server-side apply; used by the API's verbs and by admission.
"""
