"""C# functions."""
