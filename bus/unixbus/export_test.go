package unixbus

// SocketPathIn is SocketPath with another directory in place of /run/decnet.
var SocketPathIn = socketPath
