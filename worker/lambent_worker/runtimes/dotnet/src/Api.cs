using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;

namespace Lambent
{
    public sealed class Message
    {
        public readonly Dictionary<string, string> Headers = new Dictionary<string, string>();
        public byte[] Body;

        /// <summary>By its name in lower case; null if there is none.</summary>
        public string Header(string name)
        {
            string value;
            return Headers.TryGetValue(name, out value) ? value : null;
        }
    }

    /// <summary>The Runtime API over one connection that is kept alive.</summary>
    public sealed class Api
    {
        private static readonly Encoding Latin1 = Encoding.GetEncoding("iso-8859-1");
        private readonly string address;
        private Socket socket;
        private Stream stream;

        public Api(string address)
        {
            this.address = address;
        }

        /// <summary>Waits for the next event, however long.</summary>
        public Message Next()
        {
            return Ask("GET", "invocation/next", null, "");
        }

        public void Answer(string id, byte[] body)
        {
            Ask("POST", "invocation/" + id + "/response", body, "");
        }

        public void Failed(string id, Failure failure)
        {
            Post("invocation/" + id + "/error", failure);
        }

        public void InitFailed(Failure failure)
        {
            Post("init/error", failure);
        }

        private void Post(string path, Failure failure)
        {
            var type = Regex.Replace(failure.Type, "[^ -~]", "?");
            Ask("POST", path, failure.Json(), "Lambda-Runtime-Function-Error-Type: " + type + "\r\n");
        }

        private Message Ask(string method, string path, byte[] body, string headers)
        {
            var head = method + " /2018-06-01/runtime/" + path + " HTTP/1.1\r\nHost: " + address + "\r\n" + headers;
            if (body != null)
            {
                head += "Content-Type: application/json\r\nContent-Length: " + body.Length + "\r\n";
            }
            Connect();
            var start = Latin1.GetBytes(head + "\r\n");
            var all = new byte[start.Length + (body == null ? 0 : body.Length)];
            start.CopyTo(all, 0);
            if (body != null)
            {
                body.CopyTo(all, start.Length);
            }
            for (var sent = 0; sent < all.Length;)
            {
                sent += socket.Send(all, sent, all.Length - sent, SocketFlags.None);
            }
            return Read();
        }

        private void Connect()
        {
            if (socket != null)
            {
                return;
            }
            var colon = address.LastIndexOf(':');
            socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            IPAddress host;
            if (!IPAddress.TryParse(address.Substring(0, colon), out host))
            {
                host = Dns.GetHostAddresses(address.Substring(0, colon))[0];
            }
            socket.Connect(new IPEndPoint(host, int.Parse(address.Substring(colon + 1))));
            stream = new BufferedStream(new NetworkStream(socket), 64 * 1024);
        }

        private Message Read()
        {
            var message = new Message();
            Line();
            for (var line = Line(); line.Length > 0; line = Line())
            {
                var colon = line.IndexOf(':');
                message.Headers[line.Substring(0, colon).ToLowerInvariant()] = line.Substring(colon + 1).Trim();
            }
            message.Body = new byte[int.Parse(message.Header("content-length") ?? "0")];
            for (var have = 0; have < message.Body.Length;)
            {
                have += Some(stream.Read(message.Body, have, message.Body.Length - have));
            }
            if (message.Header("connection") == "close")
            {
                socket.Close();
                socket = null;
            }
            return message;
        }

        private string Line()
        {
            var line = new StringBuilder();
            for (var next = stream.ReadByte(); next != '\n'; next = stream.ReadByte())
            {
                Some(next + 1);
                if (next != '\r')
                {
                    line.Append((char)next);
                }
            }
            return line.ToString();
        }

        private static int Some(int count)
        {
            if (count == 0)
            {
                throw new EndOfStreamException("the Runtime API has closed its connection");
            }
            return count;
        }
    }
}
