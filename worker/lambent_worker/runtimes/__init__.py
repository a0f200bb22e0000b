"""The runtimes: a folder for each language, its description and what of ours runs inside an instance."""
