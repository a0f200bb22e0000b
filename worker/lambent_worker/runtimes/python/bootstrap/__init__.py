"""What runs inside an instance, beside the function, in one interpreter with it.

It imports the standard library alone, as little of it as will do, and nothing of Lambent's. A worker copies
this folder, under the name `lambent_bootstrap` that no function will choose, to where its instances see it.
"""
