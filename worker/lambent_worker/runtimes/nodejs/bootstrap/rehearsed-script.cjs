// Loaded as a function's file is, before there is a function.
exports.handler = async (event) => event;
