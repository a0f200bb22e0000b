raise IndexError, 'not today'
