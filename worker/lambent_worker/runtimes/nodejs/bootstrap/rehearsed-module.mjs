// Loaded as a function's file is, before there is a function.
export const handler = async (event) => event;
