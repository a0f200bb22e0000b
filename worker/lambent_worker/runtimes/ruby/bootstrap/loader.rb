# frozen_string_literal: true

module LambentRuntime
  # Finds what a handler names: `file.method`, or `file.Module::Class.method`.
  module Loader
    def self.load(handler)
      file, *rest = handler.split('.')
      raise Fault.new('Runtime.MalformedHandlerName', "Bad handler '#{handler}'") unless [1, 2].include?(rest.size)

      method = rest.pop.to_sym
      require_file(file)
      owner = owner_of(rest.first, handler)
      unless owner.respond_to?(method, true)
        raise Fault.new('Runtime.HandlerNotFound', "Handler '#{handler}' is not defined: '#{file}' has no such method")
      end

      ->(event, context) { owner.send(method, event: event, context: context) }
    end

    def self.require_file(file)
      path = File.expand_path(file, ENV.fetch('LAMBDA_TASK_ROOT'))
      require(File.file?("#{path}.rb") ? path : file)
    end

    def self.owner_of(name, handler)
      name ? Object.const_get(name) : Object.new
    rescue NameError
      raise Fault.new('Runtime.HandlerNotFound', "Handler '#{handler}' is not defined: there is no '#{name}'")
    end
  end
end
