package transform

import (
	"bytes"
	"fmt"
)

// truncation compiles year, month, day and hour. The type is kept; the value is its first
// instant in UTC. Texts keep the leading part of an ISO date.
func truncation(unit string, t Type) (Func, error) {
	switch t.family() {
	case famDate:
		if unit == "year" || unit == "month" {
			return func(dst, src []byte) ([]byte, bool) { return truncDate(dst, src, unit) }, nil
		}
		return nil, fmt.Errorf("a date by %s is the date itself: use year or month, or clear", unit)
	case famStamp, famStampTZ:
		zone := ""
		if t.family() == famStampTZ {
			zone = "+00"
		}
		return func(dst, src []byte) ([]byte, bool) { return truncStamp(dst, src, unit, zone) }, nil
	case famTime:
		if unit == "hour" {
			return truncTime, nil
		}
		return nil, fmt.Errorf("a time of day has no %s: use hour", unit)
	case famText:
		if unit != "hour" {
			return textDate(unit, t), nil
		}
	}
	return nil, fmt.Errorf("%s is for dates and timestamps, not for %s", unit, t)
}

// infinite says that src is one of the two dates beyond all others; they are coarse as
// they are.
func infinite(src []byte) bool { return string(src) == "infinity" || string(src) == "-infinity" }

// splitDate finds the end of the year and checks YYYY…-MM-DD at the start of src.
func splitDate(src []byte) (year int, ok bool) {
	year = bytes.IndexByte(src, '-')
	if year < 4 || year > 7 || len(src) < year+6 || src[year+3] != '-' {
		return 0, false
	}
	return year, digits(src[:year]) && inRange(src[year+1:year+3], 12) && inRange(src[year+4:year+6], 31)
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// inRange reads two digits between 01 and top.
func inRange(b []byte, top int) bool {
	if !digits(b) {
		return false
	}
	v := int(b[0]-'0')*10 + int(b[1]-'0')
	return v >= 1 && v <= top
}

// cutDate appends the date's first day of its year, month or day.
func cutDate(dst, src []byte, year int, unit string) []byte {
	switch unit {
	case "year":
		return append(append(dst, src[:year]...), "-01-01"...)
	case "month":
		return append(append(dst, src[:year+3]...), "-01"...)
	}
	return append(dst, src[:year+6]...)
}

func truncDate(dst, src []byte, unit string) ([]byte, bool) {
	if infinite(src) {
		return append(dst, src...), true
	}
	year, ok := splitDate(src)
	rest := src[min(len(src), year+6):]
	if !ok || len(rest) != 0 && string(rest) != " BC" {
		return dst, false
	}
	if string(src[:year]) == lowestYear && string(rest) == " BC" {
		return dst, false
	}
	return append(cutDate(dst, src, year, unit), rest...), true
}

// lowestYear is 4714 BC: its first months lie before the first day PostgreSQL stores, so a
// truncated value of that year may not exist.
const lowestYear = "4714"

func truncStamp(dst, src []byte, unit, zone string) ([]byte, bool) {
	if infinite(src) {
		return append(dst, src...), true
	}
	era := ""
	if bytes.HasSuffix(src, []byte(" BC")) {
		era, src = " BC", src[:len(src)-3]
	}
	year, ok := splitDate(src)
	if !ok || len(src) < year+15+len(zone) || src[year+6] != ' ' {
		return dst, false
	}
	if era != "" && string(src[:year]) == lowestYear {
		return dst, false
	}
	if zone != "" {
		if !bytes.HasSuffix(src, []byte(zone)) {
			return dst, false
		}
		src = src[:len(src)-len(zone)]
	}
	clock := src[year+7:]
	if !isClock(clock) {
		return dst, false
	}
	dst = append(cutDate(dst, src, year, unit), ' ')
	if unit == "hour" {
		dst = append(dst, clock[:2]...)
	} else {
		dst = append(dst, "00"...)
	}
	dst = append(dst, ":00:00"...)
	return append(append(dst, zone...), era...), true
}

// isClock checks HH:MM:SS with an optional fraction.
func isClock(c []byte) bool {
	if len(c) < 8 || c[2] != ':' || c[5] != ':' || !digits(c[:2]) || !digits(c[3:5]) || !digits(c[6:8]) {
		return false
	}
	return len(c) == 8 || c[8] == '.' && digits(c[9:])
}

func truncTime(dst, src []byte) ([]byte, bool) {
	if !isClock(src) {
		return dst, false
	}
	return append(append(dst, src[:2]...), ":00:00"...), true
}

// textDate keeps YYYY, YYYY-MM or YYYY-MM-DD of a text that starts with an ISO date.
func textDate(unit string, t Type) Func {
	return func(dst, src []byte) ([]byte, bool) {
		year, ok := splitDate(src)
		if !ok || year != 4 {
			return dst, false
		}
		value := src[:map[string]int{"year": 4, "month": 7, "day": 10}[unit]]
		return pad(append(dst, value...), value, t), true
	}
}
