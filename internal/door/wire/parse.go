package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// ParseFields parses the payload of an ErrorResponse or NoticeResponse. Unknown fields are
// skipped, as the protocol asks.
func ParseFields(p []byte) (ErrorFields, error) {
	var e ErrorFields
	for len(p) > 0 && p[0] != 0 {
		code := p[0]
		value, rest, ok := takeCString(p[1:])
		if !ok {
			return e, fmt.Errorf("%w: field without terminator", ErrFrame)
		}
		p = rest
		switch code {
		case 'S':
			if e.Severity == "" {
				e.Severity = value
			}
		case 'V': // not localised: it wins
			e.Severity = value
		case 'C':
			e.SQLState = value
		case 'M':
			e.Message = value
		case 'D':
			e.Detail = value
		case 'H':
			e.Hint = value
		}
	}
	if len(p) != 1 {
		return e, fmt.Errorf("%w: fields without terminator", ErrFrame)
	}
	return e, nil
}

// ParseParameterStatus parses the payload of a ParameterStatus.
func ParseParameterStatus(p []byte) (name, value string, err error) {
	name, p, ok := takeCString(p)
	if ok {
		value, p, ok = takeCString(p)
	}
	if !ok || len(p) != 0 {
		return "", "", fmt.Errorf("%w: malformed ParameterStatus", ErrFrame)
	}
	return name, value, nil
}

// ParseBackendKeyData parses the payload of a BackendKeyData. The secret is a copy.
func ParseBackendKeyData(p []byte) (pid uint32, secret []byte, err error) {
	if len(p) < 8 || len(p) > 4+MaxSecret {
		return 0, nil, fmt.Errorf("%w: malformed BackendKeyData", ErrFrame)
	}
	return binary.BigEndian.Uint32(p), bytes.Clone(p[4:]), nil
}

// ParseAuthentication splits the payload of an Authentication message. Data aliases p.
func ParseAuthentication(p []byte) (code uint32, data []byte, err error) {
	if len(p) < 4 {
		return 0, nil, fmt.Errorf("%w: malformed Authentication", ErrFrame)
	}
	return binary.BigEndian.Uint32(p), p[4:], nil
}

// ParseMechanisms parses the data of an AuthenticationSASL.
func ParseMechanisms(p []byte) ([]string, error) {
	var list []string
	for {
		m, rest, ok := takeCString(p)
		if !ok {
			return nil, fmt.Errorf("%w: malformed SASL mechanisms", ErrFrame)
		}
		if m == "" {
			return list, nil
		}
		list, p = append(list, m), rest
	}
}

// ParseSASLInitial parses the payload of a SASLInitialResponse. Response is "" when the
// client sent none.
func ParseSASLInitial(p []byte) (mechanism, response string, err error) {
	mechanism, p, ok := takeCString(p)
	if !ok || len(p) < 4 {
		return "", "", fmt.Errorf("%w: malformed SASLInitialResponse", ErrFrame)
	}
	n := int32(binary.BigEndian.Uint32(p))
	p = p[4:]
	if n == -1 && len(p) == 0 {
		return mechanism, "", nil
	}
	if n < 0 || int(n) != len(p) {
		return "", "", fmt.Errorf("%w: SASLInitialResponse length does not match", ErrFrame)
	}
	return mechanism, string(p), nil
}

// AppendSASLInitial appends a SASLInitialResponse.
func AppendSASLInitial(dst []byte, mechanism, response string) []byte {
	dst, at := begin(dst, Password)
	dst = cstring(dst, mechanism)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(response)))
	return end(append(dst, response...), at)
}

// CString returns the bytes of p before its first NUL, aliasing p, and what follows it.
// ok is false when there is none: p may then be a prefix of a longer payload.
func CString(p []byte) (s, rest []byte, ok bool) {
	i := bytes.IndexByte(p, 0)
	if i < 0 {
		return p, nil, false
	}
	return p[:i], p[i+1:], true
}
