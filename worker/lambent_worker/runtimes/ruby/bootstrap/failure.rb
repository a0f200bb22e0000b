# frozen_string_literal: true

module LambentRuntime
  # A failure with a name of Lambda's own.
  class Fault < StandardError
    attr_reader :error_type

    def initialize(error_type, message)
      super(message)
      @error_type = error_type
    end
  end

  # Lambda's error JSON. `phase` is Init or Function: part of the names of errors, as on Lambda.
  module Failure
    HERE = __dir__

    def self.of(error, phase)
      {
        errorMessage: text(error),
        errorType: error.is_a?(Fault) ? error.error_type : "#{phase}<#{error.class.name}>",
        stackTrace: frames(error)
      }
    end

    # The log gets it too, as on Lambda.
    def self.log(failure, phase)
      name = phase == 'Init' ? 'Init error when loading handler' : 'Error raised from handler method'
      $stdout.puts("#{name}\n#{JSON.generate(failure)}")
    end

    def self.text(error)
      error.message.dup.force_encoding(Encoding::UTF_8).scrub
    rescue StandardError => e
      "<its message cannot be read: #{e.class.name}>"
    end

    # The function's own: this folder's are left out, and Ruby's loader.
    def self.frames(error)
      (error.backtrace || []).reject { |frame| frame.start_with?(HERE, '<internal:') }
                             .map { |frame| frame.dup.force_encoding(Encoding::UTF_8).scrub }
    end
  end
end
