"""A Modbus TCP machine with known registers; prints its port and serves until ended."""

import asyncio

from pymodbus.datastore import ModbusSequentialDataBlock, ModbusServerContext, ModbusSlaveContext
from pymodbus.server import ModbusTcpServer

# Holding registers from address 0, signed 16 bits; the block starts at 1 as the library counts.
REGISTERS = [215, 480, 1013, 7]


async def main():
    block = ModbusSequentialDataBlock(1, REGISTERS + [0] * 60)
    coils = ModbusSequentialDataBlock(1, [True, False] + [False] * 62)
    # All four blocks are given, since this release drops the others where one is missing.
    none = ModbusSequentialDataBlock(1, [0] * 64)
    device = ModbusSlaveContext(di=none, co=coils, ir=none, hr=block)
    context = ModbusServerContext(slaves=device, single=True)
    server = ModbusTcpServer(context, address=("127.0.0.1", 0))
    await server.listen()
    print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
