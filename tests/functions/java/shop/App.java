package shop;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The function that every language has: tests/integration/worker/runtimes has the table. */
public class App implements RequestHandler<Map<String, Object>, Object> {
    private static int count = 0;

    @Override
    public Object handleRequest(Map<String, Object> event, Context context) {
        try {
            return act(event, context);
        } catch (java.io.IOException | InterruptedException error) {
            throw new IllegalStateException(error);
        }
    }

    private static Object act(Map<String, Object> event, Context context)
            throws java.io.IOException, InterruptedException {
        switch ((String) event.get("do")) {
            case "hello":
                return Map.of("hello", event.get("name"));
            case "echo":
                return event.get("data");
            case "crash":
                Runtime.getRuntime().halt(3);
                return null;
            case "count":
                return ++count;
            case "fail":
                return fail();
            case "note":
                return note((String) event.get("text"));
            case "layer":
                return greeting.Greeting.TEXT;
            case "sleep":
                System.out.println("asleep");
                Thread.sleep(600_000);
                return null;
            case "hog":
                return hog();
            case "facts":
                return facts(context);
            default:
                return null;
        }
    }

    private static Object fail() {
        throw new IllegalArgumentException("no luck");
    }

    private static String note(String text) throws java.io.IOException {
        Path path = Path.of(System.getenv("TMPDIR"), "kept");
        Files.writeString(path, text, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        return Files.readString(path);
    }

    private static Object hog() {
        List<byte[]> hoard = new ArrayList<>();
        while (true) {
            hoard.add(new byte[1 << 20]);
        }
    }

    private static Object facts(Context context) {
        context.getLogger().log("a line\n");
        Map<String, Object> facts = new LinkedHashMap<>();
        facts.put("request", context.getAwsRequestId());
        facts.put("arn", context.getInvokedFunctionArn());
        facts.put("function", context.getFunctionName());
        facts.put("version", context.getFunctionVersion());
        facts.put("memory", context.getMemoryLimitInMB());
        facts.put("remaining", context.getRemainingTimeInMillis());
        facts.put("client", context.getClientContext().getCustom().get("k"));
        return facts;
    }
}
