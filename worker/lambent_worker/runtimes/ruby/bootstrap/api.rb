# frozen_string_literal: true

require 'json'
require 'socket'

module LambentRuntime
  # The Runtime API over one connection that is kept alive, without the 30 ms that net/http takes to load.
  class Api
    PREFIX = '/2018-06-01/runtime/'

    def initialize(address)
      @host, port = address.split(':')
      @port = port.to_i
    end

    # Waits for the next event, however long: its headers, by names in lower case, and its body.
    def next_event
      ask('GET', 'invocation/next')
    end

    def answer(request_id, body, content_type = 'application/json')
      ask('POST', "invocation/#{request_id}/response", body, content_type)
    end

    def failed(request_id, failure)
      post_failure("invocation/#{request_id}/error", failure)
    end

    def init_failed(failure)
      post_failure('init/error', failure)
    end

    private

    def post_failure(path, failure)
      type = failure[:errorType].gsub(/[^ -~]/, '?')
      ask('POST', path, JSON.generate(failure), 'application/json', "Lambda-Runtime-Function-Error-Type: #{type}\r\n")
    end

    def ask(method, path, body = nil, content_type = nil, headers = '')
      head = "#{method} #{PREFIX}#{path} HTTP/1.1\r\nHost: #{@host}:#{@port}\r\n#{headers}"
      head += "Content-Type: #{content_type}\r\nContent-Length: #{body.bytesize}\r\n" if body
      socket = (@socket ||= connect)
      socket.write("#{head}\r\n", body || '')
      read_answer(socket)
    end

    def connect
      socket = TCPSocket.new(@host, @port)
      socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, 1)
      socket
    end

    def read_answer(socket)
      raise EOFError, 'the Runtime API has closed its connection' if socket.gets("\r\n").nil?

      headers = {}
      until (line = socket.gets("\r\n", chomp: true)).nil? || line.empty?
        name, value = line.split(':', 2)
        headers[name.downcase] = value.strip
      end
      body = socket.read(headers.fetch('content-length', '0').to_i)
      if headers['connection'] == 'close'
        socket.close
        @socket = nil
      end
      [headers, body]
    end
  end
end
