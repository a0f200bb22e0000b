using System;
using System.Collections;
using System.Collections.Generic;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace Lambent
{
    /// <summary>
    /// JSON as dictionaries, lists, texts, numbers, booleans and null; and any object as JSON. What is no JSON
    /// is a FormatException.
    /// </summary>
    public sealed class Json
    {
        private const int Deepest = 500;
        private readonly string text;
        private int at;

        private Json(string text)
        {
            this.text = text;
        }

        public static object Read(string text)
        {
            var json = new Json(text);
            var value = json.Value(0);
            json.Space();
            if (json.at < text.Length)
            {
                throw json.Unexpected();
            }
            return value;
        }

        private FormatException Unexpected()
        {
            return new FormatException(
                at < text.Length ? "unexpected character '" + text[at] + "' at position " + at : "unexpected end");
        }

        private void Space()
        {
            while (at < text.Length && " \t\r\n".IndexOf(text[at]) >= 0)
            {
                at++;
            }
        }

        private char Next()
        {
            Space();
            if (at >= text.Length)
            {
                throw Unexpected();
            }
            return text[at];
        }

        private bool Took(char wanted)
        {
            if (Next() != wanted)
            {
                return false;
            }
            at++;
            return true;
        }

        private void Take(char wanted)
        {
            if (!Took(wanted))
            {
                throw Unexpected();
            }
        }

        private object Value(int depth)
        {
            if (depth > Deepest)
            {
                throw new FormatException("more than " + Deepest + " levels");
            }
            switch (Next())
            {
                case '{':
                    return Object(depth);
                case '[':
                    return Array(depth);
                case '"':
                    return String();
                case 't':
                    return Word("true", true);
                case 'f':
                    return Word("false", false);
                case 'n':
                    return Word("null", null);
                default:
                    return Number();
            }
        }

        private object Word(string word, object value)
        {
            if (string.CompareOrdinal(text, at, word, 0, word.Length) != 0)
            {
                throw Unexpected();
            }
            at += word.Length;
            return value;
        }

        private Dictionary<string, object> Object(int depth)
        {
            var map = new Dictionary<string, object>();
            Take('{');
            if (Took('}'))
            {
                return map;
            }
            do
            {
                if (Next() != '"')
                {
                    throw Unexpected();
                }
                var name = String();
                Take(':');
                map[name] = Value(depth + 1);
            }
            while (Took(','));
            Take('}');
            return map;
        }

        private List<object> Array(int depth)
        {
            var list = new List<object>();
            Take('[');
            if (Took(']'))
            {
                return list;
            }
            do
            {
                list.Add(Value(depth + 1));
            }
            while (Took(','));
            Take(']');
            return list;
        }

        private string String()
        {
            var start = ++at;
            while (at < text.Length && text[at] != '"' && text[at] != '\\' && text[at] >= ' ')
            {
                at++;
            }
            if (at < text.Length && text[at] == '"')
            {
                return text.Substring(start, at++ - start);
            }
            var result = new StringBuilder();
            result.Append(text, start, at - start);
            while (at < text.Length)
            {
                var c = text[at];
                if (c == '"')
                {
                    at++;
                    return result.ToString();
                }
                if (c < ' ')
                {
                    throw Unexpected();
                }
                at++;
                result.Append(c == '\\' ? Escaped() : c);
            }
            throw Unexpected();
        }

        private char Escaped()
        {
            if (at >= text.Length)
            {
                throw Unexpected();
            }
            var c = text[at++];
            var index = "\"\\/bfnrt".IndexOf(c);
            if (index >= 0)
            {
                return "\"\\/\b\f\n\r\t"[index];
            }
            ushort code;
            if (c == 'u' && at + 4 <= text.Length
                && ushort.TryParse(text.Substring(at, 4), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out code))
            {
                at += 4;
                return (char)code;
            }
            throw new FormatException("a bad escape '\\" + c + "' at position " + at);
        }

        private object Number()
        {
            var start = at;
            while (at < text.Length && "+-.0123456789eE".IndexOf(text[at]) >= 0)
            {
                at++;
            }
            var digits = text.Substring(start, at - start);
            long whole;
            if (long.TryParse(digits, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out whole))
            {
                return whole;
            }
            try
            {
                return double.Parse(digits, NumberStyles.Float, CultureInfo.InvariantCulture);
            }
            catch (OverflowException)
            {
                return digits[0] == '-' ? double.NegativeInfinity : double.PositiveInfinity; // .NET's own answer
            }
            catch (FormatException)
            {
                at = start;
                throw Unexpected();
            }
        }

        public static string Write(object value)
        {
            var output = new StringBuilder();
            Write(value, output, 0);
            return output.ToString();
        }

        private static void Write(object value, StringBuilder output, int depth)
        {
            if (depth > Deepest)
            {
                throw new Fault("Runtime.MarshalError", "The answer has more than " + Deepest + " levels, or contains itself");
            }
            if (value == null)
            {
                output.Append("null");
            }
            else if (value is bool)
            {
                output.Append((bool)value ? "true" : "false");
            }
            else if (value is string || value is char || value is Enum || value is Guid || value is Type)
            {
                Quote(value.ToString(), output);
            }
            else if (value is DateTime || value is DateTimeOffset)
            {
                Quote(((IFormattable)value).ToString("o", CultureInfo.InvariantCulture), output);
            }
            else if (value is double || value is float)
            {
                Real(Convert.ToDouble(value), output);
            }
            else if (value is IFormattable && value.GetType().IsValueType)
            {
                output.Append(((IFormattable)value).ToString(null, CultureInfo.InvariantCulture));
            }
            else
            {
                WriteParts(value, output, depth + 1);
            }
        }

        private static void WriteParts(object value, StringBuilder output, int depth)
        {
            var before = '{';
            if (value is IDictionary)
            {
                foreach (DictionaryEntry entry in (IDictionary)value)
                {
                    Field(Convert.ToString(entry.Key, CultureInfo.InvariantCulture), entry.Value, output, ref before, depth);
                }
            }
            else if (value is IEnumerable)
            {
                Items((IEnumerable)value, output, depth);
                return;
            }
            else
            {
                foreach (var property in value.GetType().GetProperties(BindingFlags.Public | BindingFlags.Instance))
                {
                    if (property.CanRead && property.GetIndexParameters().Length == 0)
                    {
                        Field(property.Name, property.GetValue(value), output, ref before, depth);
                    }
                }
                foreach (var field in value.GetType().GetFields(BindingFlags.Public | BindingFlags.Instance))
                {
                    Field(field.Name, field.GetValue(value), output, ref before, depth);
                }
            }
            output.Append(before == '{' ? "{}" : "}");
        }

        private static void Field(string name, object value, StringBuilder output, ref char before, int depth)
        {
            output.Append(before);
            Quote(name, output);
            output.Append(':');
            Write(value, output, depth);
            before = ',';
        }

        private static void Items(IEnumerable items, StringBuilder output, int depth)
        {
            var before = '[';
            foreach (var item in items)
            {
                output.Append(before);
                Write(item, output, depth);
                before = ',';
            }
            output.Append(before == '[' ? "[]" : "]");
        }

        private static void Real(double value, StringBuilder output)
        {
            var digits = value.ToString("R", CultureInfo.InvariantCulture);
            output.Append(double.IsNaN(value) || double.IsInfinity(value) ? "\"" + digits + "\"" : digits);
        }

        private static void Quote(string text, StringBuilder output)
        {
            output.Append('"');
            for (var i = 0; i < text.Length; i++)
            {
                var c = text[i];
                if (c == '"' || c == '\\')
                {
                    output.Append('\\').Append(c);
                }
                else if (c < ' ' || char.IsSurrogate(c) && !IsPaired(text, i))
                {
                    output.Append("\\u").Append(((int)c).ToString("x4"));
                }
                else
                {
                    output.Append(c);
                }
            }
            output.Append('"');
        }

        private static bool IsPaired(string text, int at)
        {
            return char.IsHighSurrogate(text[at])
                ? at + 1 < text.Length && char.IsLowSurrogate(text[at + 1])
                : at > 0 && char.IsHighSurrogate(text[at - 1]);
        }
    }
}
