package wire

// Direction says which side sent the bytes: the same letter means different messages.
type Direction int

// Directions. The zero value knows no message type.
const (
	_            Direction = iota
	FromFrontend           // client to server
	FromBackend            // server to client
)

// Message types that a frontend sends.
const (
	Bind         = 'B'
	Close        = 'C'
	CopyData     = 'd' // both directions
	CopyDone     = 'c' // both directions
	CopyFail     = 'f'
	Describe     = 'D'
	Execute      = 'E'
	Flush        = 'H'
	FunctionCall = 'F'
	Parse        = 'P'
	Password     = 'p' // also SASLInitialResponse, SASLResponse, GSSResponse
	Query        = 'Q'
	Sync         = 'S'
	Terminate    = 'X'
)

// Message types that a backend sends.
const (
	Authentication           = 'R'
	BackendKeyData           = 'K'
	BindComplete             = '2'
	CloseComplete            = '3'
	CommandComplete          = 'C'
	CopyBothResponse         = 'W'
	CopyInResponse           = 'G'
	CopyOutResponse          = 'H'
	DataRow                  = 'D'
	EmptyQueryResponse       = 'I'
	ErrorResponse            = 'E'
	FunctionCallResponse     = 'V'
	NegotiateProtocolVersion = 'v'
	NoData                   = 'n'
	NoticeResponse           = 'N'
	NotificationResponse     = 'A'
	ParameterDescription     = 't'
	ParameterStatus          = 'S'
	ParseComplete            = '1'
	PortalSuspended          = 's'
	ReadyForQuery            = 'Z'
	RowDescription           = 'T'
)

// Transaction states of ReadyForQuery.
const (
	Idle          = 'I'
	InTransaction = 'T'
	FailedTx      = 'E'
)

// class says how long a message of a type may be.
type class uint8

const (
	unknown class = iota
	empty         // a header and nothing else
	small         // bounded by Limits.Small
	large         // bounded by Limits.Message
)

// frontend and backend are the known types of each direction: a table look-up a message.
var (
	frontend = [256]class{
		Bind: large, Close: small, CopyData: large, CopyDone: empty, CopyFail: small, Describe: small,
		Execute: small, Flush: empty, FunctionCall: large, Parse: large, Password: small, Query: large,
		Sync: empty, Terminate: empty,
	}
	backend = [256]class{
		Authentication: small, BackendKeyData: small, BindComplete: empty, CloseComplete: empty,
		CommandComplete: small, CopyBothResponse: small, CopyData: large, CopyDone: empty, CopyInResponse: small,
		CopyOutResponse: small, DataRow: large, EmptyQueryResponse: empty, ErrorResponse: large,
		FunctionCallResponse: large, NegotiateProtocolVersion: small, NoData: empty, NoticeResponse: large,
		NotificationResponse: small, ParameterDescription: large, ParameterStatus: large, ParseComplete: empty,
		PortalSuspended: empty, ReadyForQuery: small, RowDescription: large,
	}
)

// classOf returns the class of a type in a direction.
func classOf(d Direction, t byte) class {
	switch d {
	case FromFrontend:
		return frontend[t]
	case FromBackend:
		return backend[t]
	}
	return unknown
}
