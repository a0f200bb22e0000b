package lambent;

import com.amazonaws.services.lambda.runtime.LambdaRuntime;
import java.io.IOException;

/** Entry of an instance: {@code lambent.Main}, or {@code lambent.Main 3}, parked, to be told on 3 whom it is for. */
public final class Main {
    private Main() {}

    public static void main(String[] args) throws Exception {
        if (args.length > 0) {
            Parked.specialise(Integer.parseInt(args[0]));
        }
        String tmp = System.getenv("TMPDIR");
        if (tmp != null) {
            System.setProperty("java.io.tmpdir", tmp);
        }
        LambdaRuntime.setLogger(new Logger());
        Api api = new Api(System.getenv("AWS_LAMBDA_RUNTIME_API"));
        Handler handler = loaded(api);
        while (true) {
            answerOne(api, handler);
        }
    }

    private static Handler loaded(Api api) throws IOException {
        try {
            return Handlers.load(System.getenv("_HANDLER"), UserCode.loader());
        } catch (Throwable error) {
            Failure failure = Failure.of(error);
            failure.log();
            api.initFailed(failure);
            System.exit(1);
            throw new AssertionError("it has ended");
        }
    }

    /** Waits for an event, and answers it. */
    static void answerOne(Api api, Handler handler) throws IOException {
        Api.Message call = api.next();
        String requestId = call.header("lambda-runtime-aws-request-id");
        String trace = call.header("lambda-runtime-trace-id");
        if (trace != null) {
            System.setProperty("com.amazonaws.xray.traceHeader", trace);
        }
        try {
            byte[] answer = handler.answer(call.body, new FunctionContext(call));
            flush();
            api.answer(requestId, answer);
        } catch (ApiBroke broke) {
            throw broke;
        } catch (Throwable error) {
            Failure failure = Failure.of(error);
            failure.log();
            flush();
            api.failed(requestId, failure);
            if (failure.isFatal) {
                System.exit(1);
            }
        }
    }

    /** What was printed is in the log before the answer is there. */
    private static void flush() {
        System.out.flush();
        System.err.flush();
    }
}
