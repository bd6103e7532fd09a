package wire

import "encoding/binary"

// Authentication codes (first four bytes of an Authentication message).
const (
	authOk           = 0
	AuthCleartext    = 3
	AuthMD5          = 5
	AuthSASL         = 10
	AuthSASLContinue = 11
	AuthSASLFinal    = 12
)

// Severities of an ErrorResponse or NoticeResponse. They are not localised.
const (
	Fatal  = "FATAL"
	Error  = "ERROR"
	Notice = "NOTICE"
)

// ErrorFields are the fields of an ErrorResponse or NoticeResponse that Trefoil sets or
// reads. Empty fields are left out.
type ErrorFields struct {
	Severity string
	SQLState string // five characters
	Message  string
	Detail   string
	Hint     string
}

// begin appends a header whose length end fills in.
func begin(dst []byte, typ byte) ([]byte, int) {
	dst = append(dst, typ, 0, 0, 0, 0)
	return dst, len(dst) - 4
}

func end(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

// cstring appends s up to its first NUL, and a NUL: a message can never be split by a value.
func cstring(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == 0 {
			break
		}
		dst = append(dst, s[i])
	}
	return append(dst, 0)
}

// AppendErrorResponse appends an ErrorResponse.
func AppendErrorResponse(dst []byte, e ErrorFields) []byte {
	return appendFields(dst, ErrorResponse, e)
}

// AppendNoticeResponse appends a NoticeResponse.
func AppendNoticeResponse(dst []byte, e ErrorFields) []byte {
	return appendFields(dst, NoticeResponse, e)
}

func appendFields(dst []byte, typ byte, e ErrorFields) []byte {
	dst, at := begin(dst, typ)
	for _, f := range [...]struct {
		code  byte
		value string
	}{{'S', e.Severity}, {'V', e.Severity}, {'C', e.SQLState}, {'M', e.Message}, {'D', e.Detail}, {'H', e.Hint}} {
		if f.value != "" {
			dst = cstring(append(dst, f.code), f.value)
		}
	}
	return end(append(dst, 0), at)
}

// AppendReadyForQuery appends a ReadyForQuery with the given transaction state.
func AppendReadyForQuery(dst []byte, state byte) []byte {
	dst, at := begin(dst, ReadyForQuery)
	return end(append(dst, state), at)
}

// AppendParameterStatus appends a ParameterStatus.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, at := begin(dst, ParameterStatus)
	return end(cstring(cstring(dst, name), value), at)
}

// AppendBackendKeyData appends a BackendKeyData. The secret has 4 bytes in protocol 3.0 and
// up to 256 in 3.2.
func AppendBackendKeyData(dst []byte, pid uint32, secret []byte) []byte {
	dst, at := begin(dst, BackendKeyData)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return end(append(dst, secret...), at)
}

// AppendAuthenticationOk appends an AuthenticationOk.
func AppendAuthenticationOk(dst []byte) []byte { return appendAuth(dst, authOk, nil) }

// AppendAuthenticationCleartext asks for a password in clear: inside TLS alone.
func AppendAuthenticationCleartext(dst []byte) []byte { return appendAuth(dst, AuthCleartext, nil) }

// AppendAuthenticationSASL appends an AuthenticationSASL that offers mechanisms, best first.
func AppendAuthenticationSASL(dst []byte, mechanisms ...string) []byte {
	var list []byte
	for _, m := range mechanisms {
		list = cstring(list, m)
	}
	return appendAuth(dst, AuthSASL, append(list, 0))
}

// AppendSASLContinue appends an AuthenticationSASLContinue.
func AppendSASLContinue(dst []byte, data string) []byte {
	return appendAuth(dst, AuthSASLContinue, []byte(data))
}

// AppendSASLFinal appends an AuthenticationSASLFinal.
func AppendSASLFinal(dst []byte, data string) []byte {
	return appendAuth(dst, AuthSASLFinal, []byte(data))
}

func appendAuth(dst []byte, code uint32, data []byte) []byte {
	dst, at := begin(dst, Authentication)
	dst = binary.BigEndian.AppendUint32(dst, code)
	return end(append(dst, data...), at)
}

// AppendNegotiateProtocolVersion appends the answer to a start-up that asked for a newer
// minor version or for options that are not known here.
func AppendNegotiateProtocolVersion(dst []byte, minor uint16, options []string) []byte {
	dst, at := begin(dst, NegotiateProtocolVersion)
	dst = binary.BigEndian.AppendUint32(dst, 3<<16|uint32(minor))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(options)))
	for _, o := range options {
		dst = cstring(dst, o)
	}
	return end(dst, at)
}

// AppendMessage appends a message of any type with the given payload.
func AppendMessage(dst []byte, typ byte, payload []byte) []byte {
	dst, at := begin(dst, typ)
	return end(append(dst, payload...), at)
}
