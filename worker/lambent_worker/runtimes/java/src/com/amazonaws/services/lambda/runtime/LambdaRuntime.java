package com.amazonaws.services.lambda.runtime;

/** For who has no context at hand. */
public final class LambdaRuntime {
    private static volatile LambdaLogger logger;

    private LambdaRuntime() {}

    public static LambdaLogger getLogger() {
        return logger;
    }

    public static void setLogger(LambdaLogger given) {
        logger = given;
    }
}
