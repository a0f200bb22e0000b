package lambent;

import com.amazonaws.services.lambda.runtime.LambdaLogger;

/** Standard output is the function's log. */
final class Logger implements LambdaLogger {
    @Override
    public void log(String message) {
        System.out.print(message);
        System.out.flush();
    }

    @Override
    public void log(byte[] message) {
        System.out.write(message, 0, message.length);
        System.out.flush();
    }
}
