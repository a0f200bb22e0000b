using System;
using System.IO;
using System.Reflection;

namespace Lambent
{
    /// <summary>Entry of an instance.</summary>
    public static class Program
    {
        public static int Main()
        {
            Console.SetOut(new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true });
            AppDomain.CurrentDomain.AssemblyResolve += (sender, wanted) => UserCode.Find(wanted.Name);
            var api = new Api(Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API"));
            Func<byte[], FunctionContext, byte[]> handler;
            try
            {
                handler = Handlers.Load(Environment.GetEnvironmentVariable("_HANDLER"));
            }
            catch (Exception error)
            {
                var failure = new Failure(error);
                failure.Log();
                api.InitFailed(failure);
                return 1;
            }
            while (true)
            {
                Answer(api, handler, api.Next());
            }
        }

        private static void Answer(Api api, Func<byte[], FunctionContext, byte[]> handler, Message call)
        {
            var id = call.Header("lambda-runtime-aws-request-id");
            Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", call.Header("lambda-runtime-trace-id"));
            byte[] answer;
            try
            {
                answer = handler(call.Body, new FunctionContext(call));
            }
            catch (Exception error)
            {
                var failure = new Failure(error);
                failure.Log();
                api.Failed(id, failure);
                if (failure.IsFatal)
                {
                    Environment.Exit(1);
                }
                return;
            }
            api.Answer(id, answer);
        }
    }

    /// <summary>The function's assemblies: its ZIP's, then those of its layers.</summary>
    public static class UserCode
    {
        public static Assembly Find(string fullName)
        {
            var name = new AssemblyName(fullName).Name;
            foreach (var loaded in AppDomain.CurrentDomain.GetAssemblies())
            {
                if (loaded.GetName().Name == name)
                {
                    return loaded;
                }
            }
            foreach (var variable in new[] { "LAMBDA_TASK_ROOT", "LAMBENT_LAYERS_DOTNET" })
            {
                var path = Path.Combine(Environment.GetEnvironmentVariable(variable), name + ".dll");
                if (File.Exists(path))
                {
                    return Assembly.LoadFrom(path);
                }
            }
            return null;
        }
    }
}
