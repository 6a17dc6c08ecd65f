// HTTP/1.1 as all daemons here read and write it. Asio and Beast compose their operations of
// templates, which cost each file that awaits one of them up to a minute to compile: here that is
// done once.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <string>
#include <string_view>

#include "control/http/connection.hpp"

namespace portcullis::web {

using Buffer = boost::beast::flat_buffer;
using Request = boost::beast::http::request<boost::beast::http::string_body>;
using Response = boost::beast::http::response<boost::beast::http::string_body>;
using RequestReader = boost::beast::http::basic_parser<true>;
using ResponseReader = boost::beast::http::basic_parser<false>;
template <bool is_request>
using BodyReader = boost::beast::http::parser<is_request, boost::beast::http::buffer_body>;

inline constexpr unsigned kHttp11 = 11;

/// The header of a message, or the message to its end. `buffer` keeps what follows it. Everything
/// by reference lives until the awaited call returns.
Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, RequestReader& reader);
Awaitable<ErrorCode> ReadHeader(TlsStream& stream, Buffer& buffer, ResponseReader& reader);
Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, RequestReader& reader);
Awaitable<ErrorCode> Read(TlsStream& stream, Buffer& buffer, ResponseReader& reader);
Awaitable<ErrorCode> Read(TcpStream& stream, Buffer& buffer, ResponseReader& reader);
/// Some of the body, for those who take it as it comes: none, without an error, where only framing
/// came, or its end.
Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<true>& reader,
                        boost::asio::mutable_buffer room);
Awaitable<Got> ReadBody(TlsStream& stream, Buffer& buffer, BodyReader<false>& reader,
                        boost::asio::mutable_buffer room);
/// As it goes over the wire: one piece, hence one TLS record where it fits. Secrets in it are to be
/// wiped by the caller.
std::string ToText(const Request& message);
std::string ToText(const Response& message);

}  // namespace portcullis::web
