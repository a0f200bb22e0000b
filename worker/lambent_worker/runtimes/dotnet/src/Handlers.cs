using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace Lambent
{
    /// <summary>Finds what a handler names: Assembly::Namespace.Type::Method.</summary>
    public static class Handlers
    {
        private const BindingFlags Any = BindingFlags.Public | BindingFlags.Instance | BindingFlags.Static
            | BindingFlags.FlattenHierarchy;

        public static Func<byte[], FunctionContext, byte[]> Load(string name)
        {
            var parts = name.Split(new[] { "::" }, StringSplitOptions.None);
            if (parts.Length != 3)
            {
                throw new Fault("Runtime.MalformedHandlerName", "Bad handler '" + name + "': it is not ASSEMBLY::TYPE::METHOD");
            }
            var assembly = UserCode.Find(parts[0]);
            if (assembly == null)
            {
                throw new Fault("Runtime.ImportModuleError", "Could not find the specified handler assembly '" + parts[0] + "'");
            }
            var type = assembly.GetType(parts[1]);
            if (type == null)
            {
                throw new Fault("Runtime.HandlerNotFound", "Unable to load type '" + parts[1] + "' from assembly '" + parts[0] + "'");
            }
            var method = MethodOf(type, parts[2]);
            return Handler(method, method.IsStatic ? null : Activator.CreateInstance(type));
        }

        private static MethodInfo MethodOf(Type type, string name)
        {
            var methods = type.GetMethods(Any).Where(method => method.Name == name).ToArray();
            if (methods.Length != 1)
            {
                throw new Fault(
                    "Runtime.HandlerNotFound",
                    methods.Length + " public methods '" + name + "' in type '" + type.FullName + "', and one is needed");
            }
            if (methods[0].GetParameters().Length > 2)
            {
                throw new Fault("Runtime.HandlerNotFound", "Method '" + name + "' takes more than an event and a context");
            }
            return methods[0];
        }

        private static Func<byte[], FunctionContext, byte[]> Handler(MethodInfo method, object target)
        {
            var serializer = SerializerOf(method);
            var parameters = method.GetParameters();
            return (body, context) =>
            {
                var arguments = parameters.Select(parameter =>
                    typeof(ILambdaContext).IsAssignableFrom(parameter.ParameterType)
                        ? context
                        : Event(body, parameter.ParameterType, serializer)).ToArray();
                var result = method.Invoke(target, arguments);
                var task = result as Task;
                if (task == null)
                {
                    return Answer(result, method.ReturnType, serializer);
                }
                task.GetAwaiter().GetResult();
                var type = method.ReturnType;
                return type.IsGenericType
                    ? Answer(type.GetProperty("Result").GetValue(task), type.GetGenericArguments()[0], serializer)
                    : Answer(null, typeof(object), null);
            };
        }

        /// <summary>That of the method, or else of its assembly; null if they name none.</summary>
        private static ILambdaSerializer SerializerOf(MethodInfo method)
        {
            var named = method.GetCustomAttribute<LambdaSerializerAttribute>()
                ?? method.DeclaringType.Assembly.GetCustomAttribute<LambdaSerializerAttribute>();
            return named == null ? null : (ILambdaSerializer)Activator.CreateInstance(named.SerializerType);
        }

        private static object Event(byte[] body, Type wanted, ILambdaSerializer serializer)
        {
            if (wanted == typeof(Stream))
            {
                return new MemoryStream(body);
            }
            if (serializer != null)
            {
                var read = typeof(ILambdaSerializer).GetMethod("Deserialize").MakeGenericMethod(wanted);
                return read.Invoke(serializer, new object[] { new MemoryStream(body) });
            }
            try
            {
                return Binder.Bind(Json.Read(Encoding.UTF8.GetString(body)), wanted);
            }
            catch (FormatException error)
            {
                throw new Fault("Runtime.UnmarshalError", "Error deserializing the input JSON: " + error.Message);
            }
        }

        private static byte[] Answer(object result, Type type, ILambdaSerializer serializer)
        {
            var output = new MemoryStream();
            var stream = result as Stream;
            if (stream != null)
            {
                stream.CopyTo(output);
            }
            else if (serializer != null && type != typeof(void))
            {
                var write = typeof(ILambdaSerializer).GetMethod("Serialize").MakeGenericMethod(type);
                write.Invoke(serializer, new[] { result, output });
            }
            else
            {
                return Encoding.UTF8.GetBytes(Json.Write(result));
            }
            return output.ToArray();
        }
    }
}
