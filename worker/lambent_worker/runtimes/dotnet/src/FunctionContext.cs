using System;
using System.Collections.Generic;
using Amazon.Lambda.Core;

namespace Lambent
{
    /// <summary>The context of one call.</summary>
    public sealed class FunctionContext : ILambdaContext, ILambdaLogger, ICognitoIdentity
    {
        private readonly Message call;

        public FunctionContext(Message call)
        {
            this.call = call;
        }

        public string AwsRequestId { get { return call.Header("lambda-runtime-aws-request-id"); } }
        public string FunctionName { get { return Variable("AWS_LAMBDA_FUNCTION_NAME"); } }
        public string FunctionVersion { get { return Variable("AWS_LAMBDA_FUNCTION_VERSION"); } }
        public string InvokedFunctionArn { get { return call.Header("lambda-runtime-invoked-function-arn"); } }
        public string LogGroupName { get { return Variable("AWS_LAMBDA_LOG_GROUP_NAME"); } }
        public string LogStreamName { get { return Variable("AWS_LAMBDA_LOG_STREAM_NAME"); } }
        public int MemoryLimitInMB { get { return int.Parse(Variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")); } }
        public ILambdaLogger Logger { get { return this; } }
        public ICognitoIdentity Identity { get { return this; } }

        /// <summary>Nobody authenticates through Cognito here.</summary>
        public string IdentityId { get { return null; } }
        public string IdentityPoolId { get { return null; } }

        public TimeSpan RemainingTime
        {
            get
            {
                var deadline = long.Parse(call.Header("lambda-runtime-deadline-ms"));
                var left = DateTimeOffset.FromUnixTimeMilliseconds(deadline) - DateTimeOffset.UtcNow;
                return left > TimeSpan.Zero ? left : TimeSpan.Zero;
            }
        }

        public IClientContext ClientContext
        {
            get
            {
                var text = call.Header("lambda-runtime-client-context");
                return text == null ? null : new Caller(Part(Lambent.Json.Read(text)));
            }
        }

        public void Log(string message)
        {
            Console.Write(message);
        }

        public void LogLine(string message)
        {
            Console.WriteLine(message);
        }

        private static string Variable(string name)
        {
            return System.Environment.GetEnvironmentVariable(name);
        }

        private static IDictionary<string, object> Part(object value)
        {
            return value as IDictionary<string, object> ?? new Dictionary<string, object>();
        }

        private static string Text(IDictionary<string, object> fields, string name)
        {
            object value;
            return fields.TryGetValue(name, out value) && value != null ? value.ToString() : null;
        }

        private sealed class Caller : IClientContext
        {
            private readonly IDictionary<string, object> fields;

            public Caller(IDictionary<string, object> fields)
            {
                this.fields = fields;
            }

            public IDictionary<string, string> Environment { get { return Texts("env"); } }
            public IDictionary<string, string> Custom { get { return Texts("custom"); } }
            public IClientApplication Client { get { return new Application(Of("client")); } }

            private IDictionary<string, object> Of(string name)
            {
                object value;
                return Part(fields.TryGetValue(name, out value) ? value : null);
            }

            private IDictionary<string, string> Texts(string name)
            {
                var texts = new Dictionary<string, string>();
                foreach (var key in Of(name).Keys)
                {
                    texts[key] = Text(Of(name), key);
                }
                return texts;
            }
        }

        private sealed class Application : IClientApplication
        {
            private readonly IDictionary<string, object> fields;

            public Application(IDictionary<string, object> fields)
            {
                this.fields = fields;
            }

            public string AppPackageName { get { return Text(fields, "app_package_name"); } }
            public string AppTitle { get { return Text(fields, "app_title"); } }
            public string AppVersionCode { get { return Text(fields, "app_version_code"); } }
            public string AppVersionName { get { return Text(fields, "app_version_name"); } }
            public string InstallationId { get { return Text(fields, "installation_id"); } }
        }
    }
}
