"""The runtimes: a folder for each language, with its description and what of ours runs inside the instance."""
