using System;
using System.Collections.Generic;
using System.Reflection;
using System.Text;

namespace Lambent
{
    /// <summary>A failure with a name of Lambda's own.</summary>
    public sealed class Fault : Exception
    {
        public readonly string Type;

        public Fault(string type, string message) : base(message)
        {
            Type = type;
        }
    }

    /// <summary>An error as Lambda writes it for C#: class, message, the function's own frames, and its cause alike.</summary>
    public sealed class Failure
    {
        private const int MostCauses = 10;
        private readonly Exception error;

        public Failure(Exception thrown)
        {
            error = thrown;
            while (error.InnerException != null && IsWrapping(error))
            {
                error = error.InnerException;
            }
        }

        public string Type { get { return error is Fault ? ((Fault)error).Type : error.GetType().Name; } }

        /// <summary>The runtime cannot be trusted to go on.</summary>
        public bool IsFatal { get { return error is OutOfMemoryException; } }

        public byte[] Json()
        {
            return Encoding.UTF8.GetBytes(Lambent.Json.Write(Fields(error, 0)));
        }

        public void Log()
        {
            Console.WriteLine("{0}: {1}", Type, error.Message);
            foreach (var frame in Frames(error))
            {
                Console.WriteLine("   " + frame);
            }
        }

        private static bool IsWrapping(Exception error)
        {
            return error is TargetInvocationException || error is TypeInitializationException || error is AggregateException;
        }

        private static Dictionary<string, object> Fields(Exception error, int depth)
        {
            var fields = new Dictionary<string, object>();
            fields["errorType"] = error is Fault ? ((Fault)error).Type : error.GetType().Name;
            fields["errorMessage"] = error.Message;
            fields["stackTrace"] = Frames(error);
            if (error.InnerException != null && depth < MostCauses)
            {
                fields["cause"] = Fields(error.InnerException, depth + 1);
            }
            return fields;
        }

        /// <summary>Down to this namespace, and what it uses to call the function.</summary>
        private static List<string> Frames(Exception error)
        {
            var frames = new List<string>();
            foreach (var line in (error is Fault ? "" : error.StackTrace ?? "").Split('\n'))
            {
                var frame = line.Trim();
                if (frame.StartsWith("at Lambent.") || IsReflection(frame))
                {
                    break;
                }
                if (frame.StartsWith("at "))
                {
                    frames.Add(frame);
                }
            }
            return frames;
        }

        private static bool IsReflection(string frame)
        {
            return frame.StartsWith("at System.Reflection.")
                || frame.StartsWith("at System.RuntimeMethodHandle.")
                || frame.StartsWith("at InvokeStub_")
                || frame.StartsWith("at (wrapper ");
        }
    }
}
