package lambent;

import com.amazonaws.services.lambda.runtime.Client;
import com.amazonaws.services.lambda.runtime.ClientContext;
import com.amazonaws.services.lambda.runtime.CognitoIdentity;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.LambdaLogger;
import com.amazonaws.services.lambda.runtime.LambdaRuntime;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/** The context of one call. */
final class FunctionContext implements Context {
    private final Api.Message call;

    FunctionContext(Api.Message call) {
        this.call = call;
    }

    @Override
    public String getAwsRequestId() {
        return call.header("lambda-runtime-aws-request-id");
    }

    @Override
    public String getLogGroupName() {
        return System.getenv("AWS_LAMBDA_LOG_GROUP_NAME");
    }

    @Override
    public String getLogStreamName() {
        return System.getenv("AWS_LAMBDA_LOG_STREAM_NAME");
    }

    @Override
    public String getFunctionName() {
        return System.getenv("AWS_LAMBDA_FUNCTION_NAME");
    }

    @Override
    public String getFunctionVersion() {
        return System.getenv("AWS_LAMBDA_FUNCTION_VERSION");
    }

    @Override
    public String getInvokedFunctionArn() {
        return call.header("lambda-runtime-invoked-function-arn");
    }

    @Override
    public CognitoIdentity getIdentity() {
        return new CognitoIdentity() {
            @Override
            public String getIdentityId() {
                return null;
            }

            @Override
            public String getIdentityPoolId() {
                return null;
            }
        };
    }

    @Override
    public ClientContext getClientContext() {
        String text = call.header("lambda-runtime-client-context");
        return text == null ? null : new Caller(part(Json.read(text)));
    }

    @Override
    public int getRemainingTimeInMillis() {
        long deadline = Long.parseLong(call.header("lambda-runtime-deadline-ms"));
        return (int) Math.max(deadline - System.currentTimeMillis(), 0);
    }

    @Override
    public int getMemoryLimitInMB() {
        return Integer.parseInt(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
    }

    @Override
    public LambdaLogger getLogger() {
        return LambdaRuntime.getLogger();
    }

    private static Map<?, ?> part(Object value) {
        return value instanceof Map ? (Map<?, ?>) value : Collections.emptyMap();
    }

    private static final class Caller implements ClientContext {
        private final Map<?, ?> fields;

        Caller(Map<?, ?> fields) {
            this.fields = fields;
        }

        @Override
        public Client getClient() {
            return fields.get("client") == null ? null : new Application(part(fields.get("client")));
        }

        @Override
        public Map<String, String> getCustom() {
            return texts(fields.get("custom"));
        }

        @Override
        public Map<String, String> getEnvironment() {
            return texts(fields.get("env"));
        }

        private static Map<String, String> texts(Object value) {
            if (value == null) {
                return null;
            }
            Map<String, String> texts = new LinkedHashMap<>();
            part(value).forEach((name, text) -> texts.put(name.toString(), text == null ? null : text.toString()));
            return texts;
        }
    }

    private static final class Application implements Client {
        private final Map<?, ?> fields;

        Application(Map<?, ?> fields) {
            this.fields = fields;
        }

        private String text(String name) {
            Object value = fields.get(name);
            return value == null ? null : value.toString();
        }

        @Override
        public String getInstallationId() {
            return text("installation_id");
        }

        @Override
        public String getAppTitle() {
            return text("app_title");
        }

        @Override
        public String getAppVersionName() {
            return text("app_version_name");
        }

        @Override
        public String getAppVersionCode() {
            return text("app_version_code");
        }

        @Override
        public String getAppPackageName() {
            return text("app_package_name");
        }
    }
}
