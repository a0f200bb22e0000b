// The function that every language has: tests/integration/worker/runtimes has the table.
const fs = require("node:fs");

let count = 0;

const actions = {
  hello: (event) => ({ hello: event.name }),
  echo: (event) => event.data,
  crash: () => process.exit(3),
  count: () => ++count,
  fail: () => {
    throw new RangeError("no luck");
  },
  note: (event) => {
    const path = `${process.env.TMPDIR}/kept`;
    fs.appendFileSync(path, event.text);
    return fs.readFileSync(path, "utf8");
  },
  layer: () => require("greeting").TEXT,
  sleep: () => {
    console.log("asleep");
    return new Promise((resolve) => setTimeout(resolve, 600_000));
  },
  hog: () => {
    const hoard = [];
    for (;;) hoard.push(new Array(1 << 17).fill(1.5));
  },
  facts: (event, context) => {
    console.log("a line");
    return {
      request: context.awsRequestId,
      arn: context.invokedFunctionArn,
      function: context.functionName,
      version: context.functionVersion,
      memory: Number(context.memoryLimitInMB),
      remaining: context.getRemainingTimeInMillis(),
      client: context.clientContext.custom.k,
      trace: process.env._X_AMZN_TRACE_ID,
    };
  },
};

exports.handler = async (event, context) => actions[event.do](event, context);
