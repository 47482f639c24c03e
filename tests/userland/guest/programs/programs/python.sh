#!/bin/bash
# The interpreter: big numbers, floats to their last bit, text, files, threads, processes.
exec python3 - <<'PYTHON'
import decimal, fractions, hashlib, itertools, json, math, os, random, re, sqlite3, struct, subprocess, sys, tempfile, threading, zlib

print(sys.version_info[:2])
print(hashlib.sha256(b"abc").hexdigest(), hashlib.md5(b"").hexdigest())
print(hashlib.sha3_256(b"abc").hexdigest(), hashlib.blake2b(b"abc").hexdigest())
print(zlib.crc32(b"123456789"), zlib.adler32(b"123456789"))
print(3 ** 500 % 10 ** 40, math.factorial(60), math.isqrt(10 ** 60), pow(7, 10 ** 20, 10 ** 9 + 7))
print(math.sqrt(2), 1 / 3, 0.1 + 0.2, 1e23, 5e-324, float("inf"), math.fsum([0.1] * 10), (-7.5) // 2, -7.5 % 2)
print((2.5).hex(), struct.pack("<fd", 0.1, 0.1).hex(), round(2.675, 2), float.fromhex("0x1.fffffffffffffp+1023"))
print(fractions.Fraction(355, 113) - fractions.Fraction(22, 7), decimal.Decimal(2).sqrt(decimal.Context(prec=50)))
print(sum(i * i for i in range(200000)), len(list(itertools.permutations(range(7)))))
generator = random.Random(42)
print(generator.random(), generator.randrange(10 ** 30), generator.sample(range(100), 5))
print(re.sub(r"(\w+) (\w+)", r"\2 \1", "hello world"), re.findall(r"\d+", "a1b22c333"), "Straße".upper(), "\N{SNOWMAN}".encode())
print(json.dumps(json.loads('{"a": [1, 2.5, null, true], "\\u00e9": "\\ud83d\\ude00"}'), sort_keys=True))

data = bytes(generator.randrange(256) for _ in range(50000)) + b"x" * 100000
for level in 1, 6, 9:
    assert zlib.decompress(zlib.compress(data, level)) == data
print("zlib", hashlib.sha1(data).hexdigest())

base = sqlite3.connect(":memory:")
base.execute("create table t(a integer, b text)")
base.executemany("insert into t values(?, ?)", ((i * 7919 % 10007, str(i)) for i in range(20000)))
print(base.execute("select count(*), sum(a), max(b), avg(a) from t where a % 3 = 1").fetchone())

total, lock = 0, threading.Lock()
def add(n):
    global total
    for _ in range(n):
        with lock:
            total += 1
threads = [threading.Thread(target=add, args=(5000,)) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("threads", total)

with tempfile.NamedTemporaryFile() as file:
    file.write(data); file.flush(); os.fsync(file.fileno())
    print("file", os.path.getsize(file.name), open(file.name, "rb").read() == data)
print("child", subprocess.run(["/bin/sh", "-c", "echo out; exit 7"], capture_output=True))

class Matrix:
    def __init__(self, rows): self.rows = rows
    def __matmul__(self, other):
        columns = list(zip(*other.rows))
        return Matrix([[sum(a * b for a, b in zip(row, column)) for column in columns] for row in self.rows])
m = Matrix([[(i * j + 1) / 7 for j in range(30)] for i in range(30)])
print("matrix", repr(sum(map(sum, (m @ m).rows))))
try:
    1 // 0
except ZeroDivisionError as error:
    print(type(error).__name__, error)
PYTHON
