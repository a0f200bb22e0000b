using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Reflection;

namespace Lambent
{
    /// <summary>
    /// Makes of what JSON holds the objects that a handler wants. What they have no place for is left out.
    /// A FormatException says what cannot be made.
    /// </summary>
    public static class Binder
    {
        public static object Bind(object value, Type wanted)
        {
            var type = Nullable.GetUnderlyingType(wanted) ?? wanted;
            if (value == null)
            {
                return wanted.IsValueType && type == wanted ? Activator.CreateInstance(wanted) : null;
            }
            if (type.IsInstanceOfType(value))
            {
                return value;
            }
            if (value is List<object>)
            {
                return Items((List<object>)value, type);
            }
            return value is Dictionary<string, object>
                ? Fields((Dictionary<string, object>)value, type)
                : Scalar(value, type);
        }

        private static object Scalar(object value, Type type)
        {
            var text = Convert.ToString(value, CultureInfo.InvariantCulture);
            try
            {
                if (type.IsEnum)
                {
                    return value is string ? Enum.Parse(type, text, true) : Enum.ToObject(type, value);
                }
                if (type == typeof(byte[]) && value is string)
                {
                    return Convert.FromBase64String(text);
                }
                if (type == typeof(Guid))
                {
                    return Guid.Parse(text);
                }
                if (type == typeof(DateTime))
                {
                    return DateTime.Parse(text, CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind);
                }
                if (type == typeof(DateTimeOffset))
                {
                    return DateTimeOffset.Parse(text, CultureInfo.InvariantCulture);
                }
                return type == typeof(string) ? text : Convert.ChangeType(value, type, CultureInfo.InvariantCulture);
            }
            catch (Exception error) when (error is ArgumentException || error is InvalidCastException || error is OverflowException)
            {
                throw Unsuitable(value, type);
            }
        }

        private static FormatException Unsuitable(object value, Type type)
        {
            var text = Json.Write(value);
            return new FormatException(
                "a " + type.Name + " cannot be made of " + (text.Length > 100 ? text.Substring(0, 100) + "..." : text));
        }

        private static object Items(List<object> items, Type type)
        {
            var of = type.IsArray ? type.GetElementType() : type.GetGenericArguments().FirstOrDefault() ?? typeof(object);
            var list = (IList)Activator.CreateInstance(typeof(List<>).MakeGenericType(of));
            foreach (var item in items)
            {
                list.Add(Bind(item, of));
            }
            if (type.IsArray)
            {
                var array = Array.CreateInstance(of, list.Count);
                list.CopyTo(array, 0);
                return array;
            }
            if (type.IsInstanceOfType(list))
            {
                return list;
            }
            var constructor = type.GetConstructor(new[] { typeof(IEnumerable<>).MakeGenericType(of) });
            if (type.IsAbstract || constructor == null)
            {
                throw Unsuitable(items, type);
            }
            return constructor.Invoke(new object[] { list });
        }

        private static object Fields(Dictionary<string, object> fields, Type type)
        {
            var arguments = type.GetGenericArguments();
            if (arguments.Length == 2 && typeof(IEnumerable).IsAssignableFrom(type))
            {
                return Map(fields, arguments, type);
            }
            if (type.IsAbstract || type.GetConstructor(Type.EmptyTypes) == null && !type.IsValueType)
            {
                throw Unsuitable(fields, type);
            }
            var made = Activator.CreateInstance(type);
            foreach (var field in fields)
            {
                var property = type.GetProperties().FirstOrDefault(it => it.CanWrite && IsNamed(it, field.Key));
                if (property != null)
                {
                    property.SetValue(made, Bind(field.Value, property.PropertyType));
                    continue;
                }
                var variable = type.GetFields().FirstOrDefault(it => !it.IsInitOnly && !it.IsStatic && IsNamed(it, field.Key));
                if (variable != null)
                {
                    variable.SetValue(made, Bind(field.Value, variable.FieldType));
                }
            }
            return made;
        }

        private static bool IsNamed(MemberInfo member, string name)
        {
            return string.Equals(member.Name, name, StringComparison.OrdinalIgnoreCase);
        }

        private static object Map(Dictionary<string, object> fields, Type[] arguments, Type type)
        {
            var wanted = typeof(Dictionary<,>).MakeGenericType(arguments);
            var map = (IDictionary)Activator.CreateInstance(type.IsAbstract ? wanted : type);
            foreach (var field in fields)
            {
                map[Bind(field.Key, arguments[0])] = Bind(field.Value, arguments[1]);
            }
            return map;
        }
    }
}
