"""Connect with GitHub: OAuth's web flow, which hands a token to the portal that opened the popup.

``routes`` answers the browser, ``flows`` keeps what has begun, ``cookie`` binds it to the browser, ``exchange`` talks to
GitHub, and ``page`` hands the result over.
"""
