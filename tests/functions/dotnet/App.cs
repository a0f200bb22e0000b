// The function that every language has: tests/integration/worker/runtimes has the table.
using System;
using System.Collections.Generic;
using System.IO;
using System.Runtime.CompilerServices;
using System.Threading;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace Shop
{
    public class Event
    {
        public string Do { get; set; }
        public string Name { get; set; }
        public string Text { get; set; }
        public string Data { get; set; }
    }

    public class App
    {
        private static int count;

        public object Handle(Event e, ILambdaContext context)
        {
            switch (e.Do)
            {
                case "hello":
                    return new { hello = e.Name };
                case "echo":
                    return e.Data;
                case "crash":
                    Environment.Exit(3);
                    return null;
                case "count":
                    return ++count;
                case "fail":
                    return Fail();
                case "note":
                    return Note(e.Text);
                case "layer":
                    return Layer();
                case "sleep":
                    Console.WriteLine("asleep");
                    Thread.Sleep(600000);
                    return null;
                case "hog":
                    return Hog();
                case "facts":
                    return Facts(context);
                default:
                    return null;
            }
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static object Fail()
        {
            throw new ArgumentException("no luck");
        }

        private static string Note(string text)
        {
            var path = Path.Combine(Environment.GetEnvironmentVariable("TMPDIR"), "kept");
            File.AppendAllText(path, text);
            return File.ReadAllText(path);
        }

        [MethodImpl(MethodImplOptions.NoInlining)]
        private static string Layer()
        {
            return Greetings.Greeting.Text;
        }

        private static object Hog()
        {
            var hoard = new List<byte[]>();
            while (true)
            {
                hoard.Add(new byte[1 << 20]);
            }
        }

        private static object Facts(ILambdaContext context)
        {
            context.Logger.LogLine("a line");
            return new
            {
                request = context.AwsRequestId,
                arn = context.InvokedFunctionArn,
                function = context.FunctionName,
                version = context.FunctionVersion,
                memory = context.MemoryLimitInMB,
                remaining = (int)context.RemainingTime.TotalMilliseconds,
                client = context.ClientContext.Custom["k"],
            };
        }

        public async Task<string> HandleLater(string e)
        {
            await Task.Delay(1);
            return e + " later";
        }

        public async Task<string> FailLater(string e)
        {
            await Task.Delay(1);
            throw new ArgumentException("no luck");
        }

        public Stream HandleStream(Stream e)
        {
            return e;
        }

        public int HandleBytes(byte[] e)
        {
            return e.Length;
        }

        public double HandleNumber(double e)
        {
            return e > 1 ? 1 : e;
        }

        public Dictionary<string, List<int>> HandleMap(Dictionary<string, int[]> e)
        {
            var map = new Dictionary<string, List<int>>();
            foreach (var entry in e)
            {
                map[entry.Key] = new List<int>(entry.Value);
            }
            return map;
        }
    }

    public class Broken
    {
        public Broken()
        {
            throw new NotSupportedException("not today");
        }

        public void Handle()
        {
        }
    }
}
