package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// mostSpans bounds how many runs of bytes are described.
const mostSpans = 20

// describe counts the protocol's messages in a run of data by type: their values stay here.
func (m *comparison) describe(s span) (string, error) {
	var order []byte
	count := map[byte]int{}
	at := s.from
	for at < s.to {
		var head [5]byte
		if _, err := m.x.ReadAt(head[:min(5, s.to-at)], at); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		n := int64(binary.BigEndian.Uint32(head[1:]))
		if head[0] < '1' || head[0] > 'z' || n < 4 || at+5 > s.to || at+1+n > s.to {
			break
		}
		if count[head[0]] == 0 {
			order = append(order, head[0])
		}
		count[head[0]]++
		at += 1 + n
	}
	var words []string
	for _, t := range order {
		words = append(words, fmt.Sprintf("%d × %s", count[t], nameOf(t)))
	}
	if at < s.to {
		words = append(words, fmt.Sprintf("%d bytes that are no whole messages", s.to-at))
	}
	return strings.Join(words, ", "), nil
}

// nameOf names a message of a PostgreSQL server.
func nameOf(t byte) string {
	names := map[byte]string{'R': "Authentication", 'K': "BackendKeyData", 'S': "ParameterStatus", 'N': "NoticeResponse", 'E': "ErrorResponse",
		'Z': "ReadyForQuery", 'T': "RowDescription", 'D': "DataRow", 'C': "CommandComplete", '1': "ParseComplete", '2': "BindComplete",
		'3': "CloseComplete", 'n': "NoData", 't': "ParameterDescription", 'I': "EmptyQueryResponse", 's': "PortalSuspended",
		'H': "CopyOutResponse", 'G': "CopyInResponse", 'd': "CopyData", 'c': "CopyDone", 'A': "NotificationResponse", 'V': "FunctionCallResponse"}
	if name, known := names[t]; known {
		return name
	}
	return fmt.Sprintf("message of type %q", t)
}
